"""Training: one resumable command, `python -m models.training.train`."""
