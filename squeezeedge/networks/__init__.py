"""SqueezeNet in all variants (torch modules) and readers for trained checkpoints."""
