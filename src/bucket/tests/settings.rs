//! Settings of accounts that Azurite does not have.

use super::RUNTIME;
use super::azurite::container_at;
use super::scripted::Scripted;
use crate::Objects as _;

#[test]
fn a_hierarchical_namespace_is_told_and_a_refused_question_leaves_it_unknown() {
    let told = |value: &str| format!("200 OK\r\nx-ms-is-hns-enabled: {value}");
    for (head, expected) in
        [(told("true"), Some(true)), (told("false"), Some(false)), ("403 Forbidden".to_owned(), None)]
    {
        let server = Scripted::start(vec![(head, String::new())]);
        let settings = RUNTIME.block_on(container_at(server.address, "").settings()).unwrap();
        assert_eq!(settings.has_folders, expected);
        let request = server.requests.recv().unwrap().head;
        assert!(
            request.starts_with("get /devstoreaccount1/container?restype=account&comp=properties"),
            "{request}"
        );
    }
}
