// As attention_dkv.wgsl, in tiles of 64 keys x 64 queries (attention_stage). From the header: COLS_E and COLS_D (vec4 columns of q and g per
// invocation; 0 leaves a result out), dots_kq, dots_vg.

//%head
    let key = first;
    //%repeat i ROWS
    //%repeat c COLS_E
    var dk$i_$c = vec4<f32>();
    //%end
    //%repeat c COLS_D
    var dv$i_$c = vec4<f32>();
    //%end
    //%end
    // Queries before the tile see none of its keys, if attention is causal.
    for (var query = select(0u, key, CAUSAL); query < p.l; query += SIDE) {
        var m = dots_kq(lane, head, key, query);
        //%repeat k KEYS
        var vg = dots_vg(lane, head, key, query);
        //%end
        //%repeat j ROWS
        let stat$j = stats_of(head, query + x + $ju);
        let seen$j = query + x + $ju < p.l;
        //%repeat i ROWS
        m[$i][$j] = select(0.0, weight(score(head, query + x + $ju, key + y + $iu, m[$i][$j]), stat$j.x), seen$j);
        //%repeat k KEYS
        vg[$i][$j] = select(0.0, m[$i][$j] * (vg[$i][$j] - stat$j.y), seen$j);
        //%end
        //%end
        //%end
        //%repeat v VALUES
        put_weights(lane, m);
        //%gather g dv COLS_D query p.l
        //%end
        //%repeat k KEYS
        workgroupBarrier(); // readers of the other weights are done
        put_weights(lane, vg);
        //%gather q dk COLS_E query p.l
        //%end
    }
    //%repeat i ROWS
    if (key + y + $iu < p.s) {
        let row = head * p.s + key + y + $iu;
        for (var j = 0u; j < 4u; j++) {
            //%repeat c COLS_E
            if (x + $cu * SIDE + j < p.e) {
                dk[row * p.e + x + $cu * SIDE + j] = dk$i_$c[j] * p.scale;
            }
            //%end
            //%repeat c COLS_D
            if (x + $cu * SIDE + j < p.d) {
                dv[row * p.d + x + $cu * SIDE + j] = dv$i_$c[j];
            }
            //%end
        }
    }
    //%end
}
