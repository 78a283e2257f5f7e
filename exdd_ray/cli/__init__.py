"""The command line. Modules here import what is heavy inside their run functions: help must be instant."""
