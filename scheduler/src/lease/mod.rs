//! Who may plan: one lease per shard, held by one scheduler at a time.
//!
//! [`Lease`] is the pure part: what to ask of the bucket next, and until when what was granted may
//! be acted on. [`keep`] is the shell that asks.
//!
//! The bucket forgets an entry that was not renewed for the lease time, so a holder that dies or is
//! paused loses it without doing anything. A holder stops acting at two thirds of the lease on its
//! own monotonic clock, counted from before the request that was granted: the last third covers a
//! slow answer and the server's coarse timers. Two leaders for a moment are possible all the same (a
//! paused process wakes up between two checks), and harmless: what they publish has the same ids.

mod balance;
mod keeper;
mod state;

pub(crate) use balance::{Balance, attend};
pub(crate) use keeper::{Keeper, Tenure, keep};
use state::{Ask, Lease};
