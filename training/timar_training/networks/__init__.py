"""Networks: ablations of TIMAR, its distillation, and the DualTalk-like baseline."""
