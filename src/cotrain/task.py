"""What is learned: a task, its loss, its metrics, and what happens to its missing labels."""
