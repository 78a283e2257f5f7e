"""Exported detectors at work: no more than torch, numpy, Pillow and safetensors is imported here."""
