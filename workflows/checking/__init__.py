"""`lpm check`, `sync`, `states`, `people`: files measured by the workflow `check`, and what the tables say of them."""
