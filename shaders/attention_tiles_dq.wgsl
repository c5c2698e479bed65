// As attention_dq.wgsl, in tiles of 64 queries x 64 keys (attention_stage). From the header: COLS (vec4 columns of k per invocation), dots_qk, dots_gv.

//%head
    let query = first;
    //%repeat i ROWS
    let stat$i = stats_of(head, query + y + $iu);
    //%repeat c COLS
    var acc$i_$c = vec4<f32>();
    //%end
    //%end
    for (var key = 0u; key < p.s && tile_seen(query, key); key += SIDE) {
        var m = dots_qk(lane, head, query, key);
        let gv = dots_gv(lane, head, query, key);
        //%repeat i ROWS
        //%repeat j ROWS
        let w$i_$j = weight(score(head, query + y + $iu, key + x + $ju, m[$i][$j]), stat$i.x);
        m[$i][$j] = select(0.0, w$i_$j * (gv[$i][$j] - stat$i.y), key + x + $ju < p.s);
        //%end
        //%end
        put_weights(lane, m);
        //%gather k acc COLS key p.s
    }
    //%repeat i ROWS
    if (query + y + $iu < p.l) {
        let row = head * p.l + query + y + $iu;
        //%repeat c COLS
        for (var j = 0u; j < 4u; j++) {
            let col = x + $cu * SIDE + j;
            if (col < p.e) {
                dq[row * p.e + col] = acc$i_$c[j] * p.scale;
            }
        }
        //%end
    }
    //%end
}
