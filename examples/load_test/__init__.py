"""Lasttest: was ein Dienst aushält und wie man sich dabei nicht selbst betrügt."""
