"""The demo: one sender, one relay, three receivers with different budgets, on real pictures."""
