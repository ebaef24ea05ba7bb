"""What to look at: reports and alarms, pure functions of records."""
