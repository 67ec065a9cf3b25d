"""What is trained: data, models, Taylor models and the trainer."""
