// How the kernels of attention's tiles begin: in their texts this takes the place of `//%head`.
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params.heads;
    let tile = group_index(group, groups);
    if (tile >= p.tiles * p.b * p.h) {
        return;
    }
    let head = tile / p.tiles;
    enter(head);
    // The first of the workgroup's rows; where the invocation's 4 x 4 scores are in the tile.
    let first = (tile % p.tiles) * SIDE;
    let y = place_y(lane);
    let x = place_x(lane);
