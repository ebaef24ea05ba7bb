"""One training loop; SFT, reward models, DPO and PPO differ in the values handed to it."""
