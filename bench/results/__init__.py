"""What SFT and RL bring on small environments: pipelines run one after the other, and a page about them."""
