"""Small applications that log, to be run by the real servers, and what runs them."""
