"""Surface-defect detection experiments: make defects, model normality and defects, find out what works."""

__version__ = "0.1.0"
