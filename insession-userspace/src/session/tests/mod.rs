//! Scripts of (time, event) → actions, one for each rule.
