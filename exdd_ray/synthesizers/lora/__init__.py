"""DreamBooth-LoRA (In&Out): a text-to-image model is fine-tuned on a few images, and paints more of their kind."""
