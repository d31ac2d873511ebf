"""Messages to domain objects and back; what breaks a rule of the contract is refused here, with the field's path."""
