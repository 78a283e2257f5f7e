"""The typed configuration of an experiment and its loading from YAML and the command line."""
