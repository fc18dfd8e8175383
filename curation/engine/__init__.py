"""How stages run on sources: registering, planning, one step, one run, on this machine."""
