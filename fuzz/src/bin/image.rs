//! Image references: whatever is accepted has a normal form and a name for its container.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prepull::image::ImageRef;
use prepull::puller::container_name;
use prepull_fuzz::assert_one_line;

fuzz_target!(|bytes: &[u8]| {
    let written = String::from_utf8_lossy(bytes);
    let Ok(image) = ImageRef::parse(&written) else { return };
    assert_eq!(image.as_written(), written);
    let listed = image.listed_name();
    assert_one_line(&listed);
    let again = ImageRef::parse(&listed).expect("the normal form is a reference");
    assert_eq!(again.listed_name(), listed);
    assert_eq!(again.last_component(), image.last_component());
    assert!(listed.contains(image.last_component()));
    assert_dns_label(&container_name(0, &image));
    assert_dns_label(&container_name(99, &image));
});

/// RFC 1123, which the names of containers follow.
fn assert_dns_label(name: &str) {
    let inner = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let is_label = name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    assert!(is_label, "`{name}` is no name of a container");
}
