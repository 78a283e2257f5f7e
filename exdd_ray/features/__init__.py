"""From images to patch vectors: backbones, aggregation, embedding."""
