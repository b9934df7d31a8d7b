"""What more seeds would decide: a line of power per claim, and what SEEDS=auto would do from here."""
