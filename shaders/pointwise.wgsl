// Pointwise regions. The header declares the bindings and `element`, generated from the region's expression: reads at
// position i (or the four positions from 4 i on), computes, writes.

override WG: u32 = 256u;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * WG + lane;
    if i < params.count {
        element(i);
    }
}
