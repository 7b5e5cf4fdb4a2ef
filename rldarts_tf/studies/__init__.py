"""Studies: many trainings that answer one question, as one resumable command."""
