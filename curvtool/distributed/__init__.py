"""One run on several processes: who they are, and what they tell each other."""
