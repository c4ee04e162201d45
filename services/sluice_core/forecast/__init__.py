"""What jobs would cost, how long they would take and what would refuse them, before any of them is sent."""
