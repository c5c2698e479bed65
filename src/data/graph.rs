//! One graph as a data set of one example: nodes with features, who is connected with whom, and the class of each node of
//! a part of the nodes. The other nodes are seen, but their classes are ignored.

use crate::data::dataset::{Dataset, Draw, Field};
use crate::data::table::Csv;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::train::loss::IGNORED;
use std::collections::HashMap;
use std::sync::Arc;

/// Nodes and edges.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Features, f32 [nodes, width].
    pub features: HostTensor,
    /// i32 [nodes, nodes]: 1 where the column's node is a neighbour of the row's, or the node itself.
    pub neighbours: HostTensor,
    /// Class of each node.
    pub labels: Vec<i32>,
}

impl Graph {
    /// A graph whose edges (both ways) are rows of a table with two columns of node names. `nodes` are the names. Without
    /// features each node is told apart by a number of its own. Errors at an edge to a node that is not there.
    pub fn new(
        edges: &Csv,
        ends: [usize; 2],
        nodes: &[String],
        labels: Vec<i32>,
        features: Option<HostTensor>,
    ) -> Result<Graph> {
        let n = nodes.len();
        let place: HashMap<&str, usize> = nodes.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        if place.len() < n {
            return Err(Error::input("graph", "two nodes have the same name"));
        }
        let mut near = vec![0; n * n];
        (0..n).for_each(|i| near[i * n + i] = 1);
        for row in 0..edges.len() {
            let end = |column: usize| {
                let name = edges.text(row, column);
                place.get(name).copied().ok_or_else(|| edges.bad_cell(row, column, "is no node"))
            };
            let (a, b) = (end(ends[0])?, end(ends[1])?);
            (near[a * n + b], near[b * n + a]) = (1, 1);
        }
        let own = || (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let features = features.map_or_else(|| HostTensor::f32([n, n], own()), Ok)?;
        Ok(Graph { features, neighbours: HostTensor::i32([n, n], near)?, labels })
    }
}

/// A graph with the classes of some of its nodes: one example.
#[derive(Debug, Clone)]
pub struct GraphPart {
    graph: Arc<Graph>,
    targets: Vec<i32>,
}

impl GraphPart {
    /// The classes of these nodes count.
    pub fn new(graph: Arc<Graph>, nodes: &[usize]) -> GraphPart {
        let mut targets = vec![IGNORED; graph.labels.len()];
        nodes.iter().for_each(|&i| targets[i] = graph.labels[i]);
        GraphPart { graph, targets }
    }
    /// The share of this part's nodes that has their most frequent class.
    pub fn most_frequent(&self) -> f64 {
        let mine: Vec<i32> = self.targets.iter().copied().filter(|&t| t != IGNORED).collect();
        let count = |class: &i32| mine.iter().filter(|t| *t == class).count();
        mine.iter().map(count).max().unwrap_or(0) as f64 / mine.len().max(1) as f64
    }
}

impl Dataset for GraphPart {
    fn len(&self) -> usize {
        1
    }
    fn fields(&self) -> Vec<Field> {
        let n = self.targets.len();
        vec![
            Field::new("nodes", DType::F32, self.graph.features.shape.clone()),
            Field::new("neighbours", DType::I32, [n, n]),
            Field::new("label", DType::I32, [n]),
        ]
    }
    fn batch(&self, indices: &[usize], _: Option<Draw>) -> Result<Vec<HostTensor>> {
        if indices != [0] {
            return Err(Error::input("data set", format!("a graph is one example, number 0, not {indices:?}")));
        }
        let n = self.targets.len();
        let g = &self.graph;
        Ok(vec![
            HostTensor::f32([1, n, g.features.shape[1]], g.features.as_f32()?.to_vec())?,
            HostTensor::i32([1, n, n], g.neighbours.as_i32()?.to_vec())?,
            HostTensor::i32([1, n], self.targets.clone())?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_go_both_ways_and_strangers_are_named() {
        let edges = Csv::parse("u,v\na,b\nb,c\n", None, "e.csv").unwrap();
        let nodes = ["a", "b", "c"].map(str::to_string);
        let g = Graph::new(&edges, [0, 1], &nodes, vec![0, 1, 0], None).unwrap();
        assert_eq!(g.neighbours.as_i32().unwrap(), [1, 1, 0, 1, 1, 1, 0, 1, 1]);
        assert_eq!(g.features.as_f32().unwrap(), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let part = GraphPart::new(Arc::new(g), &[1]);
        let b = part.batch(&[0], None).unwrap();
        assert_eq!(b[2].as_i32().unwrap(), [IGNORED, 1, IGNORED]);
        let all = GraphPart { targets: vec![0, 1, 0], ..part.clone() };
        assert_eq!((part.most_frequent(), all.most_frequent()), (1.0, 2.0 / 3.0));
        let m = Graph::new(&edges, [0, 1], &nodes[..2], vec![0, 1], None).unwrap_err().to_string();
        assert!(m.starts_with("e.csv: line 3, column \"v\": \"c\" is no node"), "{m}");
    }
}
