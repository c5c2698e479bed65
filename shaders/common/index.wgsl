// Grid arithmetic. A linear count of workgroups is folded into three dimensions by the host (Grid::linear).

fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + groups.x * (group.y + groups.y * group.z);
}
