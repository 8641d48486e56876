"""From the journal to plugins: every event that one wants, in order, and back what they found out about people."""
