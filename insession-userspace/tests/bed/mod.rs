//! Tests in a test bed, for whoever includes this file.

use insession::testbed::{Bed, BedOptions};
use insession_common::reflect::Network;

/// Runs `test` in a thread of its own, which a test bed then belongs to.
pub fn in_a_bed(network: Network, test: impl FnOnce(&mut Bed) + Send) {
    std::thread::scope(|scope| {
        let outcome = scope
            .spawn(|| {
                let options = BedOptions { network, queues: 1 };
                test(&mut Bed::create(&options).unwrap_or_else(|error| panic!("{error}")));
            })
            .join();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}
