"""Components around policies and world models; the safety gate."""
