"""Documents as text for a person. No decisions are made here."""
