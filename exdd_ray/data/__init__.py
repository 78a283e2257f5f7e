"""Images and masks: catalogs, dataset loaders, decoding, checks and downloads."""
