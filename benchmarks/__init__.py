"""Side by side with peers; JSON results in results/."""
