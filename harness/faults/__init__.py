"""The fault matrix (T0-05): every call of a life fails in turn, with each error that its API documents."""
