// As attention.wgsl, in tiles of 64 queries x 64 keys (attention_stage). Each invocation keeps maximum and shrinking of its four queries
// in registers, and the sums over its own keys, which meet at the end. From the header: all_max and all_sum, which fold over the 16
// invocations of a query, COLS (vec4 columns of v per invocation), dots_qk.

//%head
    let query = first;
    //%repeat c COLS
    //%repeat i ROWS
    var acc$i_$c = vec4<f32>();
    //%end
    //%end
    // Of the four queries.
    var top = vec4<f32>(p.minus_inf);
    var sum = vec4<f32>();
    for (var key = 0u; key < p.s && tile_seen(query, key); key += SIDE) {
        var m = dots_qk(lane, head, query, key);
        var high: vec4<f32>;
        //%repeat i ROWS
        //%repeat j ROWS
        m[$i][$j] = score(head, query + y + $iu, key + x + $ju, m[$i][$j]);
        //%end
        high[$i] = max_nan(max_nan(m[$i].x, m[$i].y), max_nan(m[$i].z, m[$i].w));
        //%end
        let next = max_nan4(top, all_max(lane, high));
        // No key so far: all weights are 0, and no difference of infinities is taken.
        let shift = select(next, vec4<f32>(), next == vec4<f32>(p.minus_inf));
        let shrink = exp_below4(top - shift);
        top = next;
        //%repeat i ROWS
        m[$i] = exp_below4(m[$i] - shift[$i]);
        //%end
        let ones = vec4<f32>(1.0);
        sum = sum * shrink + ones * m;
        //%repeat c COLS
        //%repeat i ROWS
        acc$i_$c *= shrink[$i];
        //%end
        //%end
        put_weights(lane, m);
        //%gather v acc COLS key p.s
    }
    let all = all_sum(lane, sum);
    //%repeat i ROWS
    if (query + y + $iu < p.l) {
        let row = head * p.l + query + y + $iu;
        let none = top[$i] == p.minus_inf;
        let total = select(all[$i], p.nan, !none && !is_finite(top[$i]));
        let scale = select(1.0 / total, 0.0, none);
        //%repeat c COLS
        for (var j = 0u; j < 4u; j++) {
            let col = x + $cu * SIDE + j;
            if (col < p.d) {
                out[row * p.d + col] = acc$i_$c[j] * scale;
            }
        }
        //%end
        if (x == 0u) {
            lse[row] = select(top[$i] + log(total), p.minus_inf, none);
        }
    }
    //%end
}
