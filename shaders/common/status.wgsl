// The device's fault record: 16 words, bound as `status`. The first dispatch that finds bad data fills it; the host
// reads and clears it. Called by one invocation per dispatch, so that the report is deterministic.
// Words: 0 site (which operation; 0 means no fault), 1 position, 2 value, 3 limit.

fn report(site: u32, position: u32, value: i32, limit: u32) {
    if status[0] == 0u {
        status[0] = site;
        status[1] = position;
        status[2] = bitcast<u32>(value);
        status[3] = limit;
    }
}
