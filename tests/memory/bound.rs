/// What the program may have in use at a time, in bytes: half of what the chart gives the hook.
/// `fuzz` has the same bound.
pub const MOST_IN_USE: usize = 64 << 20;
