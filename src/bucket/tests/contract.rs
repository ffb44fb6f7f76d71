//! The contract of a storage.

use std::sync::Arc;

use quinistry_store::contract::Backend;

use super::azurite::Azurite;
use super::gateway::Gateway;
use super::{able_bucket, bucket};
use crate::testing::Mem;
use crate::{Objects, StoreAbilities};

/// Returns a backend that is opened again on the same bucket.
fn backend(objects: Arc<dyn Objects>) -> Backend {
    Backend::persistent(bucket(objects.clone()), move || backend(objects))
}

/// Returns a backend on a server of its own, which lives as long.
fn on_gateway(gateway: Gateway) -> Backend {
    Backend::persistent(bucket(Arc::new(gateway.bucket())), move || on_gateway(gateway))
}

/// Returns a backend on an emulator of its own, which lives as long.
fn on_azurite(azurite: Azurite) -> Backend {
    // Azurite does not copy ranges.
    let abilities = StoreAbilities { copies_parts: false, ..StoreAbilities::ALL };
    let storage = able_bucket(Arc::new(azurite.container("")), abilities);
    Backend::persistent(storage, move || on_azurite(azurite))
}

fn in_memory() -> Backend {
    backend(Arc::new(Mem::default()))
}

mod memory {
    quinistry_store::contract_tests!(super::super::in_memory());
}

mod versitygw {
    quinistry_store::contract_tests!(match super::super::Gateway::start() {
        Some(gateway) => super::super::on_gateway(gateway),
        None => return,
    });
}

mod azurite {
    quinistry_store::contract_tests!(match super::super::Azurite::start() {
        Some(azurite) => super::super::on_azurite(azurite),
        None => return,
    });
}
