"""SuperSimpleNet: two small heads on frozen features, trained on normal images alone or on defects, too."""
