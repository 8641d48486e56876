"""What happened, told to those who want to know: ``records`` are the events, ``feed`` the live ones from memory."""
