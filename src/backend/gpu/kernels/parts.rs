//! Long launches in parts: a driver's watchdog ends a launch that takes seconds, and a desktop stands still meanwhile. A call whose
//! grid is cut becomes several, each with the numbers of its first workgroup and of all workgroups behind its own `Params`; workgroups
//! share nothing, so the results do not change. Calls that are short keep their text.

use super::{Grid, KernelCall, Mutation};
use std::sync::Arc;

/// Under this name of a variant, a number asks for so many parts of every launch that has as many workgroups.
pub const PARTS: &str = "parts";

/// Members that a cut text's `Params` end with: four u32 each.
pub const MEMBERS: [&str; 2] = ["part_first", "part_groups"];

/// Deliberate faults: all parts compute the first workgroups; a part counts rows of workgroups by its own width.
pub const MUTATIONS: &[Mutation] = &[
    Mutation { stem: "pointwise", find: "part_group + params.part_first.xyz", replace: "part_group" },
    Mutation { stem: "pointwise", find: "let groups = params.part_groups.xyz", replace: "let groups = vec3<u32>(1u)" },
];

/// The call as `wanted` calls that together launch its workgroups, or as many as it can be cut into.
pub fn cut(call: KernelCall, wanted: u64) -> Vec<KernelCall> {
    let wanted = wanted.min(call.grid.count());
    let Some(source) = (wanted > 1).then(|| text(&call.source)).flatten() else { return vec![call] };
    let mut boxes = Vec::new();
    split([0; 3], call.grid.0, wanted, &mut boxes);
    let part = |(first, size): ([u32; 3], [u32; 3])| {
        let grid = Grid(size);
        let share = |n: u64| (u128::from(n) * u128::from(grid.count())).div_ceil(u128::from(call.grid.count())) as u64;
        let mut part = KernelCall { source: source.clone(), grid, ..call.clone() };
        (part.flops, part.bytes) = (share(call.flops), share(call.bytes));
        let [x, y, z] = first;
        let [all_x, all_y, all_z] = call.grid.0;
        let own = part.params.bytes.len().next_multiple_of(16);
        part.params.bytes.resize(own, 0);
        part.params.bytes.extend_from_slice(bytemuck::cast_slice(&[x, y, z, 0, all_x, all_y, all_z, 0]));
        part
    };
    boxes.into_iter().map(part).collect()
}

/// Cuts a box along its longest side, and the pieces along the next if that was too short.
fn split(first: [u32; 3], size: [u32; 3], parts: u64, into: &mut Vec<([u32; 3], [u32; 3])>) {
    let axis = (0..3).max_by_key(|&d| size[d]).unwrap_or(0);
    let n = parts.min(u64::from(size[axis]));
    if n <= 1 {
        into.push((first, size));
        return;
    }
    let at = |i: u64| (i * u64::from(size[axis]) / n) as u32;
    for i in 0..n {
        let (mut first, mut size) = (first, size);
        first[axis] += at(i);
        size[axis] = at(i + 1) - at(i);
        split(first, size, parts.div_ceil(n).min(size.iter().map(|&s| u64::from(s)).product()), into);
    }
}

/// The text with the workgroup's number among all parts, or `None` if it does not ask for one.
fn text(source: &str) -> Option<Arc<str>> {
    let start = source.find("\nstruct Params {\n")?;
    let end = start + source[start..].find("\n}")?;
    let [first, groups] = MEMBERS;
    let members = format!("\n    {first}: vec4<u32>,\n    {groups}: vec4<u32>,");
    let (head, main) = source[end..].split_once("fn main(")?;
    let (arguments, body) = main.split_once(") {")?;
    let (group, all) = ("@builtin(workgroup_id) group:", "@builtin(num_workgroups) groups: vec3<u32>,");
    if !arguments.contains(group) || !arguments.contains(all) {
        return None;
    }
    let arguments = arguments.replace(group, "@builtin(workgroup_id) part_group:").replace(all, "");
    let numbers = "let group = part_group + params.part_first.xyz;\n    let groups = params.part_groups.xyz;";
    let before = &source[..end];
    Some(format!("{before}{members}{head}fn main({arguments}) {{\n    {numbers}{body}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_workgroup_is_in_one_part() {
        for (size, parts) in [([7, 1, 1], 3), ([1, 5, 4], 7), ([2, 3, 4], 24), ([65_535, 3, 1], 10), ([3, 3, 3], 20)] {
            let mut boxes = Vec::new();
            split([0; 3], size, parts, &mut boxes);
            assert!(boxes.len() as u64 >= parts, "{} of {parts} parts of {size:?}", boxes.len());
            let mut seen = BTreeSet::new();
            for (first, size) in &boxes {
                let along = |d: usize| first[d]..first[d] + size[d];
                for (x, y, z) in along(0).flat_map(|x| along(1).flat_map(move |y| along(2).map(move |z| (x, y, z)))) {
                    assert!(seen.insert((x, y, z)), "{x} {y} {z} twice");
                }
            }
            assert_eq!(seen.len() as u64, Grid(size).count());
            let most = boxes.iter().map(|b| Grid(b.1).count()).max().unwrap_or(0);
            assert!(most <= 2 * Grid(size).count().div_ceil(parts), "a part of {most} workgroups");
        }
    }
}
