"""SSH into members: keys that are derived, a door where clients knock, and a server that becomes part of the member."""
