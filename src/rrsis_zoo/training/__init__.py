"""Lightning modules, schedules and callbacks."""
