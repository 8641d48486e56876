"""Generated from ``proto/facesvc/v1`` by ``make proto``; never edited."""
