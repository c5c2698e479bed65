// The weight of a pair in the gradient of attention, recomputed from its score and the query's lse. No entry point.

fn weight(score: f32, lse: f32) -> f32 {
    let p = params.heads;
    let w = select(exp_below(score - lse), p.nan, is_nan(lse));
    return select(w, 0.0, lse == p.minus_inf);
}

// lse and delta of a query.
fn stats_of(head: u32, query: u32) -> vec2<f32> {
    return stats[head * params.heads.l + min(query, params.heads.l - 1u)];
}
