"""Ein JupyterHub für eine Klasse: ein Container je Person, auf einem Rechner."""
