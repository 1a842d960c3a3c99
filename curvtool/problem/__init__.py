"""What is differentiated: checkpoint, model, data and loss, joined into one objective."""
