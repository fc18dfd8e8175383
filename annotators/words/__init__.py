"""Which words are said and when: recognisers, aligners, which words are known."""
