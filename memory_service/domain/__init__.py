"""What a memory is and which changes it allows. Pure: no clock, no I/O."""
